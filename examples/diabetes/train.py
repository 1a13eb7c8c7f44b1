"""Predict the progression of diabetes after one year by a linear model (data set shipped inside scikit-learn)."""

from __future__ import annotations

import argparse

import mlflow
import mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_diabetes
from sklearn.linear_model import ElasticNet
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def main() -> None:
    """Train, measure, log."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alpha", type=float, default=0.5, help="strength of the regularisation")
    parser.add_argument("--l1-ratio", type=float, default=0.1, help="share of L1 in it")
    parser.add_argument("--test-size", type=float, default=0.25, help="share of rows to measure with")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()

    rows, target = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    rows = rows.astype("float64")
    train_x, test_x, train_y, test_y = train_test_split(
        rows, target, test_size=options.test_size, random_state=options.seed)
    model = make_pipeline(
        StandardScaler(), ElasticNet(alpha=options.alpha, l1_ratio=options.l1_ratio, random_state=options.seed))

    with mlflow.start_run():
        model.fit(train_x, train_y)
        predicted = model.predict(test_x)
        metrics = {
            "r2": r2_score(test_y, predicted),
            "rmse": root_mean_squared_error(test_y, predicted),
            "mae": mean_absolute_error(test_y, predicted),
        }
        mlflow.log_metrics(metrics)
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(test_x, predicted),
            input_example=test_x.head(2),
            pip_requirements="requirements.txt",
        )
    print(", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


if __name__ == "__main__":
    main()
