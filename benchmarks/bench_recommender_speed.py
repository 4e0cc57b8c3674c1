"""CPU seconds of a NeuMF epoch, ours beside a tutorial's, and of a full ranking, on MovieLens-100K.

    python benchmarks/bench_recommender_speed.py --data-dir ../shared/data
    python benchmarks/bench_recommender_speed.py --data-dir ../shared/data --quick

The tutorial's way: for each positive 4 draws of `np.random.randint` that are looked up in a sparse
matrix, a `Dataset` that returns one pair as tensors, a `DataLoader`, Adam. Ours: all negatives of
the epoch drawn at once, batches cut from tensors, fused Adam. Both train the network of He et al.
(2017) with 8 factors and hidden layers 64-32-16-8 on all but the two newest ratings of each user
(98,114 positives, 490,570 rows with their negatives), one thread each, in one process, taking
turns. "Rows" are pairs with a label, of which a batch of ours holds 5 for each positive.

What is printed is a Markdown table: medians, and the smallest and largest, of --repeats epochs.
"""

# ruff: noqa: E402  # the number of threads has to be set before torch is imported

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"

import argparse
import itertools
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from trainables.data.user_items import RecommenderData, UserItems
from trainables.metrics import rank
from trainables.models.recommender_model import RecommenderModel
from trainables.models.recommenders import make_recommender
from trainables.recommender_hyperparameters import RecommenderHyperparameters

N_USERS, N_ITEMS = 943, 1682
NEGATIVES = 4
TUTORIAL_BATCHES = (256, 2048)
"""Rows. The smaller is usual; the larger is faster."""
OUR_BATCHES = (51, 410, 2048)
"""Positives: as many rows as the tutorial's 256 and 2,048, and five times that."""
RANKING_REPEATS = 9


def load(data_dir: Path, newest: slice) -> UserItems:
    """Read each user's ratings by time (ties in file order), and of these a slice."""
    table = np.loadtxt(data_dir / "ml-100k" / "u.data", np.int64)
    table = table[np.lexsort((table[:, 3], table[:, 0]))]
    users, items = table[:, 0] - 1, table[:, 1] - 1
    starts = np.searchsorted(users, np.arange(N_USERS + 1))
    rows = [np.arange(starts[u], starts[u + 1])[newest] for u in range(N_USERS)]
    chosen = np.concatenate(rows)
    return UserItems.from_pairs(users[chosen], items[chosen], N_USERS, N_ITEMS)


# ---------------------------------------------------------------------- the tutorial's way


class PairDataset(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """One labelled pair per index; negatives are drawn by `draw`, once per epoch."""

    def __init__(self, train: UserItems) -> None:
        self.positives = list(zip(train.users.tolist(), train.items.tolist(), strict=True))
        self.matrix = scipy.sparse.dok_matrix((N_USERS, N_ITEMS), dtype=np.float32)
        for user, item in self.positives:
            self.matrix[user, item] = 1.0
        self.rows: list[tuple[int, int, float]] = []

    def draw(self) -> None:
        """Pair each positive with fresh negatives."""
        self.rows = []
        for user, item in self.positives:
            self.rows.append((user, item, 1.0))
            for _ in range(NEGATIVES):
                negative = np.random.randint(N_ITEMS)  # noqa: NPY002  # as tutorials have it
                while (user, negative) in self.matrix:
                    negative = np.random.randint(N_ITEMS)  # noqa: NPY002
                self.rows.append((user, negative, 0.0))

    def __len__(self) -> int:
        return len(self.positives) * (1 + NEGATIVES)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        user, item, label = self.rows[index]
        return torch.tensor(user), torch.tensor(item), torch.tensor(label)


class PlainNeuMF(nn.Module):
    """The same network as ours, written pair by pair."""

    def __init__(self) -> None:
        super().__init__()
        self.gmf_users, self.gmf_items = nn.Embedding(N_USERS, 8), nn.Embedding(N_ITEMS, 8)
        self.mlp_users, self.mlp_items = nn.Embedding(N_USERS, 32), nn.Embedding(N_ITEMS, 32)
        sizes = (64, 32, 16, 8)
        layers: list[nn.Module] = []
        for inputs, units in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, units), nn.ReLU()]
        self.mlp = nn.Sequential(*layers)
        self.out = nn.Linear(16, 1)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """(b,) and (b,) to logits (b,)."""
        gmf = self.gmf_users(users) * self.gmf_items(items)
        mlp = self.mlp(torch.cat([self.mlp_users(users), self.mlp_items(items)], 1))
        logits: Tensor = self.out(torch.cat([gmf, mlp], 1))
        return logits.squeeze(1)


def tutorial_epoch(train: UserItems, batch: int) -> Callable[[int], None]:
    """Return a function that trains one epoch of `batch` rows a step."""
    dataset = PairDataset(train)
    model = PlainNeuMF()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loss_of = nn.BCEWithLogitsLoss()

    def epoch(steps: int) -> None:
        dataset.draw()
        loader = DataLoader(dataset, batch_size=batch, shuffle=True)
        for step, (users, items, labels) in enumerate(loader):
            loss = loss_of(model(users, items), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step == steps:
                break

    return epoch


# ---------------------------------------------------------------------- ours


def our_epoch(train: UserItems, batch: int) -> Callable[[int], None]:
    """Return a function that trains one epoch of `batch` positives a step."""
    model = ours(
        train,
        model="neumf",
        dim=8,
        width=64,
        layers=3,
        dropout=0.0,
        loss="bce",
        negatives=NEGATIVES,
        batch_size=batch,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    generator = torch.Generator().manual_seed(0)

    def epoch(steps: int) -> None:
        model.train()
        for step, rows in enumerate(model.batches(generator)):
            loss = model.loss(rows)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if step == steps:
                break

    return epoch


def ours(train: UserItems, **values: object) -> RecommenderModel:
    """Build a model of ours on the CPU."""
    h = RecommenderHyperparameters(**values)  # type: ignore[arg-type]  # checked at run time
    return make_recommender(h, RecommenderData(train, train), "cpu")


def ranking(train: UserItems, held_out: UserItems, dim: int) -> tuple[Callable[[], object], ...]:
    """Return functions that score all items with MF, and that rank them and measure as well."""
    model = ours(train, model="mf", dim=dim)
    model.eval()
    users = torch.arange(N_USERS)

    def scores() -> object:
        model.train(False)  # forget what the last evaluation prepared
        with torch.inference_mode():
            return model.scores(users, train)

    def metrics() -> object:
        model.train(False)
        return rank(
            model.scores, history=train, seen=train, positives=held_out, ks=(5, 10, 20)
        ).means()

    return scores, metrics


# ---------------------------------------------------------------------- the table


def measure(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def row(name: str, seconds: list[float], best: float | None) -> str:
    """Format a line: median, range, and how many times faster than `best` that is."""
    middle = statistics.median(seconds)
    factor = f"{best / middle:.1f}" if best else ""
    return f"| {name} | {middle:.3f} | {min(seconds):.3f} - {max(seconds):.3f} | {factor} |"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="folder that holds ml-100k")
    parser.add_argument("--repeats", type=int, default=3, help="epochs of each (3)")
    parser.add_argument("--quick", action="store_true", help="a few steps only: a smoke test")
    args = parser.parse_args()
    steps, repeats = (2, 1) if args.quick else (1 << 30, args.repeats)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # for the tutorial's draws
    train, held_out = load(args.data_dir, slice(None, -2)), load(args.data_dir, slice(-2, -1))
    epochs: dict[str, Callable[[int], None]] = {}
    for batch in TUTORIAL_BATCHES:
        epochs[f"tutorial, {batch:,} rows a step"] = tutorial_epoch(train, batch)
    for batch in OUR_BATCHES:
        name = f"ours, {batch * (1 + NEGATIVES):,} rows a step ({batch:,} positives)"
        epochs[name] = our_epoch(train, batch)
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    for epoch in epochs.values():
        epoch(2)  # warm up
    for _ in range(repeats):
        for name, epoch in epochs.items():
            seconds[name].append(measure(lambda epoch=epoch: epoch(steps)))  # type: ignore[misc]
    best = min(statistics.median(s) for name, s in seconds.items() if name.startswith("tutorial"))
    print(f"NeuMF, {len(train):,} positives, {NEGATIVES} negatives each; {versions()}\n")
    print("| one epoch | CPU s (median) | range | times faster than the tutorial's best |")
    print("| --- | --- | --- | --- |")
    for name, values in seconds.items():
        print(row(name, values, None if name.startswith("tutorial") else best))
    print(f"\n| {N_USERS} x {N_ITEMS:,} full ranking, MF | CPU s (median) | range | |")
    print("| --- | --- | --- | --- |")
    for dim in (64, 128):
        scores, metrics = ranking(train, held_out, dim)
        for name, work in (("scores", scores), ("scores, ranks and metrics at 5, 10, 20", metrics)):
            work()
            values = [measure(work) for _ in range(RANKING_REPEATS)]
            print(row(f"dim {dim}: {name}", values, None))


def versions() -> str:
    """Name what this ran with."""
    return (
        f"Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"{platform.machine()}, one thread"
    )


if __name__ == "__main__":
    main()
