"""The peers' own code on our virtual clock, one module per package; each is imported when used."""
