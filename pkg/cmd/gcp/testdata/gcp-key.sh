# The APIs that the steps below and MLflow itself call.
gcloud services enable storage.googleapis.com iam.googleapis.com --project=my-project
# The bucket of MLflow's artifacts: access by roles alone, never public.
gcloud storage buckets create gs://mlflow-prod --project=my-project --location=europe-west1 --uniform-bucket-level-access --public-access-prevention
# An account of Google's for MLflow's pods.
gcloud iam service-accounts create mlflow --project=my-project --display-name=MLflow
# MLflow reads and writes the artifacts, and nothing else.
gcloud storage buckets add-iam-policy-binding gs://mlflow-prod --role=roles/storage.objectUser --member=serviceAccount:mlflow@my-project.iam.gserviceaccount.com --condition=None
# The namespace, for the Secrets below: as install makes it, where it is not there.
kubectl -n mlflow get namespace mlflow || { kubectl -n mlflow create namespace mlflow && kubectl -n mlflow label namespace mlflow app.kubernetes.io/name=mlflow pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted; }
# A key of the account, from gcloud into a Secret without a file between. It never expires: Workload Identity needs none.
gcloud iam service-accounts keys create - --iam-account=mlflow@my-project.iam.gserviceaccount.com --project=my-project | kubectl -n mlflow create secret generic mlflow-google-key --from-file=key.json=/dev/stdin
# MLflow itself. Where it is installed already, this changes only what is new.
kubectl mlflow install --overlay gcp --artifacts-destination gs://mlflow-prod/artifacts --google-key-secret mlflow-google-key
