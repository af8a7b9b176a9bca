"""C{crcache hosts}: have this node's container engines ask crcache first."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from crcache.errors import ConfigError
from crcache.nodes import containerd, docker, k3s, podman
from crcache.nodes.containerd_config import CONFIG
from crcache.nodes.files import Files, Step, take
from crcache.nodes.plan import Mirror, Plan, parse_mirror

NAME = "hosts"
HELP = "have containerd, k3s, podman or Docker ask crcache first"

_ENGINES = ("containerd", "k3s", "podman", "docker")
_LARGEST_CA = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = (
        "Write what makes a container engine ask crcache first and the registry itself if that fails. Without --apply"
        " and --remove it shows what would be written, with status 1 if anything is missing."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--apply", action="store_true", help="write it; what others wrote is kept in a copy beside it")
    what.add_argument("--remove", action="store_true", help="take it back")
    parser.add_argument(
        "--for",
        dest="engine",
        choices=_ENGINES,
        default="containerd",
        help="the engine: containerd (default), k3s (RKE2 too), podman (CRI-O, skopeo and buildah too), docker",
    )
    parser.add_argument(
        "--mirror",
        metavar="URL",
        type=_checked(parse_mirror),
        default="http://127.0.0.1:3000",
        help="where crcache is (default: %(default)s)",
    )
    parser.add_argument("--ca", metavar="FILE", type=Path, help="the authority of an https mirror's certificate, PEM")
    parser.add_argument(
        "--registry",
        metavar="NAME",
        dest="registries",
        action="append",
        type=_checked(podman.parse_registry),
        default=[],
        help="for podman: a registry to ask for through crcache; may be repeated (default: the well-known public ones)",
    )
    parser.add_argument(
        "--config", metavar="FILE", help=f"for containerd: its configuration, below --root (default: {CONFIG})"
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="the host's root directory (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Do it.

    @return: 0 if all is in place, 1 if something is still missing, 2 for flags that do not go together.
    @raise ConfigError: for what cannot be read, understood or written.
    """
    misuse = _misuse(arguments)
    if misuse:
        print(f"crcache: {misuse}", file=sys.stderr)
        return 2
    if not arguments.root.is_dir():
        raise ConfigError(f"--root: {arguments.root}: is not a directory")
    files = Files(arguments.root)
    plan = _plan(files, arguments)
    changing = arguments.apply or arguments.remove
    if changing:
        take(files, plan.steps)
        for directory in plan.directories:
            files.remove_directory(directory)
    if arguments.json:
        print(json.dumps(_report(files, plan, arguments), indent=2))
    else:
        _tell(files, plan, arguments)
    return 1 if plan.problems or (plan.steps and not changing) else 0


def _checked(parse: Callable[[str], str]) -> Callable[[str], str]:
    def checked(text: str) -> str:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return checked


def _misuse(arguments: argparse.Namespace) -> str | None:
    if arguments.registries and arguments.engine != "podman":
        return "--registry goes with --for podman only: the others take one entry for all"
    if arguments.config is not None and arguments.engine != "containerd":
        return "--config goes with --for containerd only"
    if arguments.config is not None and not arguments.config.startswith("/"):
        return "--config: must be an absolute path, below --root"
    if arguments.ca is not None and not arguments.mirror.startswith("https:"):
        return "--ca goes with an https mirror only"
    return None


def _plan(files: Files, arguments: argparse.Namespace) -> Plan:
    config = arguments.config or CONFIG
    if arguments.config is not None and files.read(config) is None:
        raise ConfigError(f"--config: {files.shown(config)}: is not there")
    if arguments.remove:
        removals = {
            "containerd": lambda: containerd.plan_removal(files, config),
            "k3s": lambda: k3s.plan_removal(files),
            "podman": lambda: podman.plan_removal(files),
            "docker": lambda: docker.plan_removal(files),
        }
        return removals[arguments.engine]()
    mirror = Mirror(arguments.mirror, _read_ca(arguments.ca))
    plans = {
        "containerd": lambda: containerd.plan(files, mirror, config),
        "k3s": lambda: k3s.plan(files, mirror),
        "podman": lambda: podman.plan(files, mirror, arguments.registries),
        "docker": lambda: docker.plan(files, mirror),
    }
    return plans[arguments.engine]()


def _read_ca(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_CA).decode("ascii")
    except OSError as error:
        raise ConfigError(f"--ca: {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        text = ""
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise ConfigError(f"--ca: {path}: has no certificate in PEM form")
    if "PRIVATE KEY-----" in text:
        raise ConfigError(f"--ca: {path}: has a private key in it, which is not for others to read")
    return text


def _report(files: Files, plan: Plan, arguments: argparse.Namespace) -> dict[str, object]:
    changing = arguments.apply or arguments.remove
    return {
        "for": arguments.engine,
        "mirror": arguments.mirror,
        "action": "apply" if arguments.apply else "remove" if arguments.remove else "show",
        "changes": [
            {"path": files.shown(step.path), "action": _action(step), "done": changing, "text": step.told}
            for step in plan.steps
        ],
        "notes": plan.notes,
        "problems": plan.problems,
        "reload": plan.reload if plan.steps else None,
    }


def _action(step: Step) -> str:
    if step.text is None:
        return "remove"
    return "copy" if step.quiet else "write"


def _tell(files: Files, plan: Plan, arguments: argparse.Namespace) -> None:
    changing = arguments.apply or arguments.remove
    for step in plan.steps:
        if not step.quiet:
            verb = "written" if step.text is not None else "removed"
            print(f"{files.shown(step.path)}: {verb if changing else f'would be {verb}'}")
            if not changing and step.told is not None:
                print("".join(f"    {line}\n" for line in step.told.splitlines()), end="")
    if not plan.steps:
        print(f"{arguments.engine}: nothing to {'remove' if arguments.remove else 'change'}")
    for note in plan.notes:
        print(f"note: {note}")
    if plan.steps and changing:
        print(f"note: {plan.reload}")
    for problem in plan.problems:
        print(f"crcache: {problem}", file=sys.stderr)
