"""Hooks of a builder: from code to runnables."""

from __future__ import annotations

from fuseml_sdk.hookspecs.marker import hookspec
from fuseml_sdk.types import BuilderDescription, BuildRequest, BuildResult, Detection, FileListing


class BuilderSpecs:
    """Hooks of a builder; it recognises codesets and makes runnables out of them."""

    @hookspec(firstresult=True)
    def builder_describe(self) -> BuilderDescription:
        """Say which codesets the builder recognises and what it makes of them.

        Asked after each start and before codesets are looked at; it must not change while the plugin runs.

        Returns:
            Types of codesets, the small files that `builder_detect` wants to read, names of the runnables it makes.

        Example:
            >>> class Builder:
            ...     @hookimpl
            ...     def builder_describe(self):
            ...         return BuilderDescription(name="make", types=["make-project"], reads=["Makefile"],
            ...                                   makes=["trainer"])
            >>> Builder().builder_describe().makes
            ['trainer']
        """

    @hookspec(firstresult=True)
    def builder_detect(self, listing: FileListing) -> Detection:
        r"""Decide within 10 seconds whether a codeset is of one of the builder's types.

        Called for every push of code; it must not need anything but its argument.

        Args:
            listing: Its file list, with the text of the small files that `builder_describe().reads` names.

        Returns:
            Whether it is, of which type, and why or why not in one sentence for who pushed it.

        Example:
            >>> class Builder:
            ...     @hookimpl
            ...     def builder_detect(self, listing):
            ...         if "train:" in listing.contents.get("Makefile", ""):
            ...             return Detection(matches=True, type="make-project", why="Makefile has a target train")
            ...         return Detection(matches=False, why="there is no Makefile with a target train")
            >>> Builder().builder_detect(FileListing(contents={"Makefile": "train:\n\tpython train.py"})).type
            'make-project'
        """

    @hookspec(firstresult=True)
    def builder_build(self, request: BuildRequest) -> BuildResult:
        r"""Make runnables out of a checked-out codeset.

        Called inside a job, by `python -m fuseml_sdk.build`, in the extension's environment: it may take long, and
        what it prints is the log of the build. The same codeset with the same parameters makes the same runnables.

        Args:
            request: Where the checkout lies, where results go, and the parameters of the build.

        Returns:
            The descriptor of each runnable, whose files lie in `<output>/<its output name>/`.

        Raises:
            InvalidInput: The codeset is broken; the message names file, place and remedy.

        Example:
            >>> class Builder:
            ...     @hookimpl
            ...     def builder_build(self, request):
            ...         if not Path(request.directory, "Makefile").is_file():
            ...             raise InvalidInput("there is no Makefile", hint="Add one with a target train.")
            ...         descriptor = RunnableDescriptor(name=f"{request.name}-trainer", kind="trainer",
            ...                                         command=["make", "train"])
            ...         return BuildResult(runnables=[BuiltRunnable(output="trainer", descriptor=descriptor)])
            >>> folder = tempfile.mkdtemp()
            >>> _ = Path(folder, "Makefile").write_text("train:\n")
            >>> request = BuildRequest(project="p", name="wines", digest="git:1", directory=folder, output="/out")
            >>> Builder().builder_build(request).runnables[0].descriptor.name
            'wines-trainer'
        """
