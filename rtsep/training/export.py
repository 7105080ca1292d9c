"""From a checkpoint to a model folder: model.onnx, manifest.toml and, where there is none, a CARD.md."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from rtsep.errors import ModelError, UsageError
from rtsep.separators.manifest import State
from rtsep.training import family, weights
from rtsep.training.checkpoints import read_checkpoint
from rtsep.training.data.augment import WINDOW
from rtsep.training.family import FAMILY, MEMBERS
from rtsep.training.graphs import live as live_graph
from rtsep.training.graphs import live_proof, proof
from rtsep.training.graphs.graph import OPSET, states
from rtsep.training.koretzky_export import koretzky, of_folder, with_detector
from rtsep.training.made import Made
from rtsep.training.nets import live
from rtsep.training.nets.spectrum import BINS
from rtsep.training.tasks import TASKS, find

# Of the masks against torch, and of the whole stream against torch's offline form, in dB under it.
TOLERANCES = {"float32": (1e-4, -80.0), "float16": (1e-4, -80.0), "int8": (1e-1, -40.0)}
LICENSE = "see CARD.md"
_MANIFEST = """\
format = 1
name = "{name}"
summary = "{summary}"
license = "{license}"

[file]
name = "model.onnx"
sha256 = "{sha256}"
opset = {opset}

[transform]
samplerates = [44100, 48000]
window = {window}
hop = {hop}
synthesis = {synthesis}

[features]
kind = "{kind}"
bins = {bins}

[tensors]
input = "{input}"
mask = "mask"
{more}extend = "hold"
lookahead = {lookahead}
"""

_STATE = """
[[state]]
input = "{0.input}"
output = "{0.output}"
shape = {0.shape}
"""

_PARAMETER = """
[[parameters]]
name = "{name}"
default = {default}
"""

_CARD = """\
# {name}

{summary}

Exported from a checkpoint of `rtsep train {trained}`{target}; {steps} of {of} steps, seed {seed}.
Net: {net}.

Nobody has written down the data, its licences and the scores of this model yet. Do so here before you pass it on.
"""


def _live(values: dict[str, Any], storage: str, temper: tuple[float, float]) -> Made:
    if storage == "int8":
        raise UsageError(f"storage int8: {values['name']} is stored as float32 or float16")
    model = live.Live(live.LiveConfig.from_dict(values["net"]))
    model.load_state_dict(values["mean"])
    model.temper(*temper)
    stored, notes = model.eval(), []
    if storage == "float16":
        stored = proof.rounded(model)
        moved = live_proof.moved(model, stored)
        notes.append(f"float16: masks move by {moved.max():.1e} at most, {moved.mean():.1e} in the mean")
    proto, carried = live_graph.streaming_graph(stored, half=storage == "float16")
    data, config = proto.SerializeToString(), model.config
    ahead = f", {config.lookahead} hops ahead" if config.lookahead else ""
    return Made(
        data,
        states(carried, config.past),  # after so many nothing is left of the zeros before the first
        lambda: live_proof.deviation(stored, data, carried),
        f"bands of the stereo field, along the spectrum and along time in turns{ahead}, masks for middle and side",
        config.hop,
        "stereo_field",
        BINS,
        "field",
        ('vad = "vad"\n' if model.detects else "") + f'mask_kind = "mid_side"\nturns = {config.apart}\n',
        config.lookahead,
        lambda folder: live_proof.chain_deviation_db(stored, folder),
        notes,
        {"binary": 0.0, "threshold": 0.5} | ({"vad_gate": 0.0} if model.detects else {}),
    )


def together(checkpoint: Path, further: Sequence[Path]) -> dict[str, Any]:
    """A checkpoint with the mean of its weights and those of further ones.

    Trainings that began alike lie around a better net than each of them found (Wortsman and others, Model soups, 2022).

    Raises
    ------
    UsageError
        No such file, or one of another net or of other sizes.
    """
    values = read_checkpoint(checkpoint)
    means: list[dict[str, torch.Tensor]] = [values["mean"]]
    for path in further:
        other = read_checkpoint(path)
        if other["name"] != values["name"]:
            raise UsageError(f"{path} is a checkpoint of {other['name']}, {checkpoint} one of {values['name']}")
        shapes = [{name: tuple(value.shape) for name, value in found.items()} for found in (means[0], other["mean"])]
        if shapes[0] != shapes[1]:
            raise UsageError(f"{path} has other sizes than {checkpoint}: only nets alike have a mean")
        means.append(other["mean"])
    mean = {
        name: torch.stack([found[name].double() for found in means]).mean(0).to(value.dtype)
        for name, value in means[0].items()
    }
    return values | {"mean": mean}


def member(values: dict[str, Any], part: str | None) -> dict[str, Any]:
    """A checkpoint of the family as one of a member of it; any other as it is.

    Raises
    ------
    UsageError
        Of the family without a `part` or with an unknown one; a `part` of another net.
    """
    if values["name"] != FAMILY:
        if part is not None:
            raise UsageError(
                f"--part {part}: the checkpoint is one of {values['name']}; only those of {FAMILY} have parts"
            )
        return values
    if part not in MEMBERS:
        what = "no --part" if part is None else f"--part {part}"
        raise UsageError(f"{what}: a checkpoint of {FAMILY} holds {', '.join(MEMBERS)}: give one of them")
    whole = live.LiveConfig.from_dict(values["net"])
    net, mean = weights.part(whole, values["mean"], family.member(whole, part))
    return values | {"name": part, "net": net.to_dict(), "mean": mean}


def export(
    checkpoint: Path,
    output: Path,
    *,
    check: bool = True,
    overwrite: bool = False,
    vad_bias: float = 0.0,
    storage: str = "float32",
    mask_scale: float = 1.0,
    mask_shift: float = 0.0,
    further: Sequence[Path] = (),
    part: str | None = None,
    detector: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Write the model folder of a checkpoint and return it.

    Parameters
    ----------
    checkpoint : Path
        A file of `rtsep train`; or a model folder of koretzky, to give it another `detector`.
    output : Path
        Folder to write: model.onnx, manifest.toml, and a plain CARD.md where there is none yet.
    check : bool
        Run the file frame by frame in ONNX Runtime against torch; the live family also through the whole chain of the
        host against torch's offline form.
    overwrite : bool
        Replace a model that is there.
    vad_bias : float
        koretzky: added to the detector's logit, where songs hold another share of voice than the mash-ups (two thirds).
    storage : str
        "float16": weights take half the room in the file, the net computes in float32 as before; not koretzky's.
        "int8": a quarter, of drnn, wvpnn, cvpnn and dnn.
    mask_scale, mask_shift : float
        Of the live family: the logits of the masks are scaled and shifted so; chosen on songs that the training has
        not seen.
    further : sequence of Path
        Checkpoints of other trainings that began alike: `together`.
    part : str, optional
        Of a training of the family: which of its members (`rtsep.training.family`).
    detector : Path, optional
        A net of the live family, folder or checkpoint, that is koretzky's voice detector from now on.
    say : callable
        Told what the checks found.

    Raises
    ------
    UsageError
        No such checkpoint or storage, checkpoints of different nets, or a model is there and `overwrite` is not set.
    ModelError
        The exported file or the stream differs from torch by more than `TOLERANCES` allow.
    """
    if storage not in TOLERANCES:
        raise UsageError(f"storage {storage!r}: expected {' or '.join(TOLERANCES)}")
    folder = checkpoint.is_dir() and detector is not None
    values = of_folder(checkpoint) if folder else together(checkpoint, further)
    if detector is not None:
        values = with_detector(values, detector)
    trained, values = values["name"], member(values, part)
    model_file, manifest = output / "model.onnx", output / "manifest.toml"
    if (model_file.exists() or manifest.exists()) and not overwrite:
        raise UsageError(f"{output} holds a model already: give --overwrite, or another folder")
    config, name = values["config"], values["name"]
    if name != "koretzky" and vad_bias:
        raise UsageError(f"{name} has no voice detector to shift by vad_bias")
    if name not in MEMBERS and (mask_scale, mask_shift) != (1.0, 0.0):
        raise UsageError(f"mask_scale and mask_shift are for {', '.join(MEMBERS)}, not for {name}")
    if not mask_scale > 0:
        raise UsageError(f"mask_scale {mask_scale:g} is not possible: a number above 0 is")
    if name == "koretzky" and storage != "float32":
        raise UsageError(f"storage {storage}: koretzky is stored as float32 only")
    if name in TASKS:
        made = find(name).made(values, storage)
    else:
        made = koretzky(values, vad_bias) if name == "koretzky" else _live(values, storage, (mask_scale, mask_shift))
    data = made.data
    text = _MANIFEST.format(
        name=name,
        summary=made.summary,
        license=LICENSE,
        sha256=hashlib.sha256(data).hexdigest(),
        opset=OPSET,
        window=WINDOW,
        synthesis=2 * made.hop,
        **{key: getattr(made, key) for key in ("hop", "kind", "bins", "input", "more", "lookahead")},
    )
    found = [State("state", "state_out", [1, made.state])] if isinstance(made.state, int) else made.state
    for state in found:
        text += _STATE.format(state) + (f"silent_runs = {state.silent_runs}\n" if state.silent_runs else "")
    text += "".join(_PARAMETER.format(name=key, default=value) for key, value in made.parameters.items())
    if check:
        _check(checkpoint, made, text, *TOLERANCES[storage], say)
    output.mkdir(parents=True, exist_ok=True)
    for path, content in ((model_file, data), (manifest, text.encode())):
        fresh = path.with_suffix(".part")
        fresh.write_bytes(content)
        fresh.replace(path)
    card = output / "CARD.md"
    if not card.exists() and folder:
        card.write_text(
            f"{(checkpoint / 'CARD.md').read_text()}\nIts voice detector is now that of another net, by `rtsep export "
            "--detector`; nobody has scored it yet.\n"
        )
    elif not card.exists():
        card.write_text(
            _CARD.format(
                name=name,
                trained=trained,
                summary=made.summary,
                target=f", target {config['target']}" if "target" in config else "",
                steps=values["step"],
                of=config["steps"],
                seed=config["seed"],
                net=", ".join(f"{key} {value}" for key, value in values.get("net", config).items()),
            )
        )
    return output


def _check(
    checkpoint: Path, made: Made, manifest: str, most: float, most_db: float, say: Callable[[str], None]
) -> None:
    """Refuse a model that does not do what the checkpoint does."""
    for note in made.notes:
        say(note)
    worst = made.deviation()
    if not worst <= most:
        raise ModelError(f"{checkpoint}: the exported net differs from torch by {worst:.2e}; wanted {most:.0e}")
    say(f"ONNX = torch: masks differ by {worst:.1e} at most")
    if made.chain is None:
        return
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "model.onnx").write_bytes(made.data)
        (Path(name) / "manifest.toml").write_text(manifest)
        found = made.chain(Path(name))
    if not found <= most_db:
        raise ModelError(f"{checkpoint}: the stream differs from torch by {found:.0f} dB; wanted {most_db:.0f}")
    say(f"stream = offline: the sound differs by {found:.0f} dB")
