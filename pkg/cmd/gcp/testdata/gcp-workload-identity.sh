# The APIs that the steps below and MLflow itself call.
gcloud services enable storage.googleapis.com iam.googleapis.com iamcredentials.googleapis.com --project=my-project
# The bucket of MLflow's artifacts: access by roles alone, never public.
gcloud storage buckets create gs://mlflow-prod --project=my-project --location=europe-west1 --uniform-bucket-level-access --public-access-prevention
# An account of Google's for MLflow's pods.
gcloud iam service-accounts create mlflow --project=my-project --display-name=MLflow
# MLflow reads and writes the artifacts, and nothing else.
gcloud storage buckets add-iam-policy-binding gs://mlflow-prod --role=roles/storage.objectUser --member=serviceAccount:mlflow@my-project.iam.gserviceaccount.com --condition=None
# Pods of the Kubernetes account mlflow in namespace mlflow may act as the service account.
gcloud iam service-accounts add-iam-policy-binding mlflow@my-project.iam.gserviceaccount.com --project=my-project --role=roles/iam.workloadIdentityUser --member='serviceAccount:my-project.svc.id.goog[mlflow/mlflow]' --condition=None
# MLflow itself, its Kubernetes accounts annotated with the service accounts. Where it is installed already, this changes only what is new.
kubectl mlflow install --overlay gcp --artifacts-destination gs://mlflow-prod/artifacts --google-service-account mlflow@my-project.iam.gserviceaccount.com
