# The number of the cluster's project, which names below need.
PROJECT_NUMBER=$(gcloud projects describe my-project --format='value(projectNumber)')
# The APIs that the steps below and MLflow itself call.
gcloud services enable storage.googleapis.com iam.googleapis.com --project=my-project
# The bucket of MLflow's artifacts: access by roles alone, never public.
gcloud storage buckets create gs://mlflow-prod --project=my-project --location=europe-west1 --uniform-bucket-level-access --public-access-prevention
# MLflow reads and writes the artifacts, and nothing else.
gcloud storage buckets add-iam-policy-binding gs://mlflow-prod --role=roles/storage.objectUser --member="serviceAccount:${PROJECT_NUMBER}-compute@developer.gserviceaccount.com" --condition=None
# MLflow itself. Where it is installed already, this changes only what is new.
kubectl mlflow install --overlay gcp --artifacts-destination gs://mlflow-prod/artifacts
