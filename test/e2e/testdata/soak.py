"""A tracking client that works for so many seconds, and then counts what it has written: soak.py SECONDS.

It is the client as everybody has it: with its own retries, and none of ours. Standard output is one JSON object."""
import json
import pathlib
import sys
import time

import mlflow

seconds = float(sys.argv[1])
client = mlflow.MlflowClient()
experiment = client.create_experiment(f"soak-{time.time_ns()}")
run = client.create_run(experiment).info.run_id
end, step, slowest, artifacts = time.monotonic() + seconds, 0, 0.0, []
while time.monotonic() < end:
    began = time.monotonic()
    client.log_metric(run, "step", step, step=step)
    if step % 10 == 0:
        client.set_tag(run, f"tag-{step}", "x" * 100)
    if step % 25 == 0:
        client.log_text(run, str(step) * 10_000, f"text/{step}.txt")
        artifacts.append(step)
    slowest = max(slowest, time.monotonic() - began)
    step += 1
history = client.get_metric_history(run, "step")
tags = client.get_run(run).data.tags
texts = pathlib.Path(mlflow.artifacts.download_artifacts(run_id=run, artifact_path="text"))
lost = {
    "metrics": sorted(set(range(step)) - {m.step for m in history}),
    "tags": [s for s in range(0, step, 10) if f"tag-{s}" not in tags],
    "artifacts": [s for s in artifacts if not (texts / f"{s}.txt").exists() or (texts / f"{s}.txt").read_text() != str(s) * 10_000],
}
print(json.dumps({"requests": step, "slowest": round(slowest, 1), "lost": {k: v for k, v in lost.items() if v}}))
