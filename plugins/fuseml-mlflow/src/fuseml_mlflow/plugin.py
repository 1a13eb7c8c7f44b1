"""The plugin object: hooks of the MLflow builder."""

from __future__ import annotations

import pluggy

from fuseml_mlflow import builder
from fuseml_mlflow.project import find, parse
from fuseml_sdk import PROJECT
from fuseml_sdk.errors import InvalidInput
from fuseml_sdk.types import BuilderDescription, BuildRequest, BuildResult, Detection, FileListing

hookimpl = pluggy.HookimplMarker(PROJECT)


class MlflowBuilder:
    """Recognises MLflow projects and makes a trainer and a predictor of each."""

    @hookimpl
    def builder_describe(self) -> BuilderDescription:
        """Say that MLflow projects become trainers and predictors."""
        return BuilderDescription(name="mlflow", types=[builder.TYPE], reads=["mlproject"],
                                  makes=["trainer", "predictor"])

    @hookimpl
    def builder_detect(self, listing: FileListing) -> Detection:
        """Match a codeset with an MLproject file in its root, broken or not: the build step then says what is wrong."""
        file = find(entry.path for entry in listing.files)
        if file is None:
            return Detection(matches=False, why="no MLproject file in the root")
        text = listing.contents.get(file)
        if text is None:
            return Detection(matches=True, type=builder.TYPE, why=f"{file} in the root")
        try:
            project = parse(text, file)
        except InvalidInput as error:
            return Detection(matches=True, type=builder.TYPE, why=f"{file} in the root, but broken: {error.message}",
                             metadata={"mlflow": {"file": file, "error": error.message}})
        facts = {"file": file, "name": project.name, "entry_points": sorted(project.entry_points)}
        return Detection(matches=True, type=builder.TYPE, why=f"{file} in the root", metadata={"mlflow": facts})

    @hookimpl
    def builder_build(self, request: BuildRequest) -> BuildResult:
        """Build the trainer and the predictor; see `fuseml_mlflow.builder.build`."""
        return builder.build(request)


plugin = MlflowBuilder()
