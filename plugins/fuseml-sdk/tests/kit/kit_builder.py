"""A builder that keeps every rule, and for each rule one that breaks it alone; also those that break CORE rules."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from fuseml_sdk import calls, hookimpl
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.types import BuilderDescription, BuildResult, BuiltRunnable, Detection, RunnableDescriptor

COUNT = itertools.count()


class Builder:
    """Makes a trainer of a codeset with the file `kit.txt`."""

    @hookimpl
    def builder_describe(self):
        return BuilderDescription(name="kit", types=["kit"], reads=["kit.txt"], makes=["trainer"])

    @hookimpl
    def builder_detect(self, listing):
        if any(entry.path == "kit.txt" for entry in listing.files):
            return Detection(matches=True, type="kit", why="kit.txt in the root")
        return Detection(matches=False, why="no kit.txt in the root")

    @hookimpl
    def builder_build(self, request):
        file = Path(request.directory) / "kit.txt"
        if not file.is_file() or file.read_text() != "whole":
            raise InvalidInput("kit.txt is not whole", hint="Write `whole` into it.")
        (Path(request.output) / "trainer").mkdir()
        runnable = RunnableDescriptor(kind="trainer", name="trainer", command=["python", "-c", "pass"])
        return BuildResult(runnables=[BuiltRunnable(output="trainer", descriptor=runnable)])


class BU01(Builder):
    @hookimpl
    def builder_describe(self):
        return super().builder_describe().model_copy(update={"name": ""})


class BU02(Builder):
    @hookimpl
    def builder_detect(self, listing):
        return super().builder_detect(listing) if listing.files else Detection(matches=True, type="kit", why="empty")


class BU03(Builder):
    @hookimpl
    def builder_detect(self, listing):
        return super().builder_detect(listing).model_copy(update={"why": "first\nsecond"})


class BU04(Builder):
    @hookimpl
    def builder_detect(self, listing):
        return super().builder_detect(listing).model_copy(update={"why": f"for the {next(COUNT)}th time"})


class BU05(Builder):
    @hookimpl
    def builder_detect(self, listing):
        time.sleep(11 if len(listing.files) > 9999 else 0)
        return super().builder_detect(listing)


class BU06(Builder):
    @hookimpl
    def builder_detect(self, listing):
        found = super().builder_detect(listing)
        return found.model_copy(update={"type": "other"}) if found.matches else found


class BU07(Builder):
    @hookimpl
    def builder_detect(self, listing):
        found = super().builder_detect(listing)
        return found.model_copy(update={"metadata": {"text": listing.contents["kit.txt"]}}) if found.matches else found


class BU08(Builder):
    @hookimpl
    def builder_build(self, request):
        made = super().builder_build(request)
        return BuildResult(runnables=[each.model_copy(update={"output": "predictor"}) for each in made.runnables])


class BU09(Builder):
    @hookimpl
    def builder_build(self, request):
        try:
            return super().builder_build(request)
        except InvalidInput:
            raise InvalidInput("something is broken") from None


class CORE01(Builder):
    def __init__(self):
        raise RuntimeError("no back-end")


class CORE02(Builder):
    builder_build = None


class CORE04(Builder):
    @hookimpl
    def fuseml_health(self):
        raise RuntimeError("unwell")


class CORE06(Builder):
    @hookimpl
    def builder_describe(self):
        return super().builder_describe().model_copy(update={"name": f"kit-{next(COUNT)}"})


class CORE07(Builder):
    busy = threading.Lock()

    @hookimpl
    def builder_describe(self):
        if not self.busy.acquire(blocking=False):
            raise RuntimeError("called twice at once")
        try:
            time.sleep(0.02)
            return super().builder_describe()
        finally:
            self.busy.release()


class CORE21(Builder):
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.mode = config["mode"]


class CORE22(Builder):
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.take(**config)

    def take(self, conformance_password=""):
        self.password = conformance_password


class CORE23(Builder):
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        print("configured with", config)


class CORE24(Builder):
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        (Path(state_dir).parents[1] / "stray").write_text("x")


class CORE31(Builder):
    @hookimpl
    def fuseml_shutdown(self):
        os._exit(4)


class CORE32(Builder):
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        signal.signal = lambda *_: None  # the runtime sets its own handler after this

    @hookimpl
    def builder_describe(self):
        time.sleep(0.3)
        return super().builder_describe()


class CORE33(Builder):
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        from fuseml_sdk.serve import lifeline

        real = lifeline.os
        lifeline.os = type("Os", (), {"read": staticmethod(real.read)})


class CORE34(Builder):
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.child = subprocess.Popen(["sleep", "300"])


class CORE35(Builder):
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.mark = Path(state_dir) / "lock"
        self.mark.open("x").close()

    @hookimpl
    def fuseml_shutdown(self):
        self.mark.unlink()


class CORE36(Builder):
    lock = threading.Lock()

    @hookimpl
    def builder_describe(self):
        if not self.lock.acquire(timeout=1):
            raise RuntimeError("locked for ever")
        if not calls.current().wait(0.3):
            self.lock.release()
        return super().builder_describe()


class CORE37(Builder):
    @hookimpl
    def builder_detect(self, listing):
        os.open("/dev/null", os.O_RDONLY)
        return super().builder_detect(listing)


class CORE38(Builder):
    @hookimpl
    def fuseml_configure(self, config, state_dir):
        self.late = False
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self):
        last = time.monotonic()
        while time.monotonic() - last < 0.15:
            last = time.monotonic()
            time.sleep(0.01)
        self.late = True

    @hookimpl
    def builder_describe(self):
        if self.late:
            raise RuntimeError("the clock jumped")
        return super().builder_describe()


class CORE49(Builder):
    @hookimpl
    def builder_detect(self, listing):
        for entry in listing.files:
            Path(entry.path).exists()
            if "\0" in entry.path:
                raise ValueError("embedded null byte")
        return super().builder_detect(listing)
