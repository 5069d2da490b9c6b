"""Fetches Apache Kafka's jars by their locked Maven coordinates, with no Maven and no system Java.

Invariant: a class path is handed out only when every jar has the SHA-256 of `jgo.lock.toml`. The jars stay in the usual
Maven cache, so a second checkout downloads nothing. `python -m services.cli.machine.jars` writes the lock anew.
"""

import hashlib
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from jgo.config import GlobalSettings
from jgo.env import EnvironmentSpec, LockFile
from jgo.maven import Artifact, MavenContext

from services.cli.machine.errors import MachineError

KAFKA_FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "kafka"
SPEC = KAFKA_FOLDER / "jgo.toml"
LOCK = KAFKA_FOLDER / "jgo.lock.toml"


@dataclass(frozen=True, slots=True)
class LockedJar:
    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinate(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def maven() -> MavenContext:
    """The user's own jgo settings (mirror, cache folder), else Maven Central and the usual cache."""
    settings = GlobalSettings.load()
    return MavenContext(repo_cache=settings.repo_cache, remote_repos=settings.repositories or None, timeout=60)


def locked_jars() -> list[LockedJar]:
    lock = tomllib.loads(LOCK.read_text())
    return [LockedJar(d["groupId"], d["artifactId"], d["version"], d["sha256"]) for d in lock["dependencies"]]


def fetch_class_path(progress: Callable[[str], None]) -> str:
    """Returns the class path of the locked jars, fetching those that are not in the cache.

    Raises MachineError when a jar cannot be fetched or has another SHA-256 than the locked one.
    """
    jars = locked_jars()
    context = maven()
    paths: dict[str, Path] = {}
    missing = []
    for jar in jars:
        cached = artifact_of(context, jar).cached_path
        if cached is not None and cached.is_file() and sha256_of(cached) == jar.sha256:
            paths[jar.coordinate] = cached
        else:
            missing.append(jar)
    if missing:
        progress(f"fetching {len(missing)} jars")
    with ThreadPoolExecutor(max_workers=8) as pool:
        waiting = {pool.submit(fetch, context, jar): jar for jar in missing}
        for done, future in enumerate(as_completed(waiting), 1):
            try:
                paths[waiting[future].coordinate] = future.result()
            except MachineError:
                pool.shutdown(cancel_futures=True)
                raise
            if done % 10 == 0 or done == len(missing):
                progress(f"fetched {done} of {len(missing)} jars")
    return ":".join(str(paths[jar.coordinate]) for jar in jars)


def fetch(context: MavenContext, jar: LockedJar) -> Path:
    cached = artifact_of(context, jar).cached_path
    if cached is not None:
        cached.unlink(missing_ok=True)  # another SHA-256 than the locked one: cut off, or not what was locked
    try:
        path = Path(artifact_of(context, jar).resolve())
    except Exception as error:  # jgo raises whatever its HTTP client raises
        raise MachineError(
            f"Kafka's jar {jar.coordinate} could not be fetched and is not in {context.repo_cache}: the first start "
            "needs a Maven repository. Check the network or the proxy (a mirror goes into ~/.config/jgo.conf), then "
            "start again.",
            detail=str(error),
        ) from error
    if sha256_of(path) != jar.sha256:
        path.unlink()
        raise MachineError(f"The jar {jar.coordinate} that was fetched is not the locked one (its SHA-256 differs).")
    return path


def artifact_of(context: MavenContext, jar: LockedJar) -> Artifact:
    return context.project(jar.group, jar.artifact).at_version(jar.version).artifact()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_lock() -> None:
    """Resolves `jgo.toml` and writes the lock: only names, versions and SHA-256, sorted, so that a change can be read."""
    context = maven()
    spec = EnvironmentSpec.load(SPEC)
    wanted = [context.create_dependency(coordinate) for coordinate in spec.coordinates]
    inputs, transitive = context.resolver.resolve(wanted)
    needed = [*inputs, *(dependency for dependency in transitive if dependency.scope in ("compile", "runtime"))]
    lock = LockFile.from_resolved_dependencies(needed, environment_name=spec.name, java_version=spec.java_version)
    lines = ["# Written by `make lock` from jgo.toml.", "[environment]", f'name = "{spec.name}"', ""]
    for jar in sorted(lock.dependencies, key=lambda jar: (jar.groupId, jar.artifactId)):
        lines += ["[[dependencies]]", f'groupId = "{jar.groupId}"', f'artifactId = "{jar.artifactId}"']
        lines += [f'version = "{jar.version}"', 'packaging = "jar"', f'sha256 = "{jar.sha256}"', ""]
    LOCK.write_text("\n".join(lines))


if __name__ == "__main__":
    write_lock()
