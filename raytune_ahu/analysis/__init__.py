"""What a run teaches: results in, frames out; `figures` only draws them, `report` lays them out."""
