"""Reports as events."""

from __future__ import annotations

from trainer import report, words


def test_a_step_has_openais_names() -> None:
    said = report.Step(
        step=3,
        of=9,
        loss=0.5,
        lr=1e-4,
        grad_norm=2.0,
        tokens=30,
        tokens_per_second=7.0,
        eta=12.0,
        memory=4,
        accuracy=0.9,
    )
    note = words.step(said)
    assert (note.type, note.message) == ("metrics", "Step 3/9: training loss=0.5000")
    assert (note.data["train_loss"], note.data["train_mean_token_accuracy"]) == (0.5, 0.9)
    assert "reward_margin" not in note.data


def test_what_is_left_out_is_a_warning() -> None:
    said = report.Started(step=0, of=9, examples=5, truncated=1, dropped=2, trainable=1)
    note = words.note(said)
    assert note.level == "warn"
    assert "1 cut" in note.message
    assert "2 left out" in note.message


def test_a_checkpoint_has_what_is_known() -> None:
    said = report.Checkpoint(step=3, folder="checkpoint-3", loss=0.5, valid_loss=0.7)
    assert words.checkpoint(said) == {
        "step": 3,
        "train_loss": 0.5,
        "valid_loss": 0.7,
        "full_valid_loss": 0.7,
    }
