"""Processes that are called as Pulumi's are."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

from operations.stack import PROJECT_FOLDER


class pulumi:  # noqa: N801 - read as a clause
    """A process that is called as Pulumi's CLI is."""

    command = "pulumi"

    def __init__(self, folder: Path) -> None:
        self.executable = folder / self.command
        if not self.executable.exists():
            self.executable.symlink_to("/bin/sleep")

    def __enter__(self) -> subprocess.Popen[bytes]:
        self.process = self.start()
        # Between fork and exec it has this process's name.
        while psutil.Process(self.process.pid).cmdline()[:1] == [sys.executable]:
            time.sleep(0.01)
        return self.process

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self.executable, "60"])

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


class plugin(pulumi):  # noqa: N801
    """A process that is called as a provider is, by an engine at an address."""

    command = "pulumi-resource-kubernetes"

    def __init__(self, at: Path, address: str, folder: Path = PROJECT_FOLDER) -> None:
        self.executable = at / self.command
        if not self.executable.exists():
            self.executable.write_text("#!/bin/sh\nread line\n")
            self.executable.chmod(0o755)
        self.address, self.within = address, folder

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self.executable, self.address], cwd=self.within, stdin=subprocess.PIPE)
