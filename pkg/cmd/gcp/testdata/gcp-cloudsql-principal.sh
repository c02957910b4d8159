# The number of the cluster's project, which names below need.
PROJECT_NUMBER=$(gcloud projects describe my-project --format='value(projectNumber)')
# The APIs that the steps below and MLflow itself call.
gcloud services enable storage.googleapis.com iam.googleapis.com iamcredentials.googleapis.com sqladmin.googleapis.com --project=my-project
# The instance is yours already. Look that it is RUNNABLE and speaks PostgreSQL, with a public address.
gcloud sql instances describe mlops --project=my-project --format='yaml(connectionName,state,databaseVersion,ipAddresses,settings.ipConfiguration.pscConfig,settings.databaseFlags)'
# The bucket of MLflow's artifacts: access by roles alone, never public.
gcloud storage buckets create gs://mlflow-prod --project=my-project --location=europe-west1 --uniform-bucket-level-access --public-access-prevention
# MLflow reads and writes the artifacts, and nothing else.
gcloud storage buckets add-iam-policy-binding gs://mlflow-prod --role=roles/storage.objectUser --member="principal://iam.googleapis.com/projects/${PROJECT_NUMBER}/locations/global/workloadIdentityPools/my-project.svc.id.goog/subject/ns/mlflow/sa/mlflow" --condition=None
# Lets the Cloud SQL Auth Proxy connect to the instances of the project.
gcloud projects add-iam-policy-binding my-project --role=roles/cloudsql.client --member="principal://iam.googleapis.com/projects/${PROJECT_NUMBER}/locations/global/workloadIdentityPools/my-project.svc.id.goog/subject/ns/mlflow/sa/mlflow-cloudsql-proxy" --condition=None
# The database of MLflow.
gcloud sql databases create mlflowdb --instance=mlops --project=my-project
# The namespace, for the Secrets below: as install makes it, where it is not there.
kubectl -n mlflow get namespace mlflow || { kubectl -n mlflow create namespace mlflow && kubectl -n mlflow label namespace mlflow app.kubernetes.io/name=mlflow pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted; }
# A password that nobody sees, in the Secret that MLflow will read. Leave this out where secret/mlflow-database is there (and use --apply where it has percent-escapes).
openssl rand -hex 24 | tr -d '\n' | kubectl -n mlflow create secret generic mlflow-database --from-file=DB_PASSWORD=/dev/stdin
# The user of the database. The password goes from the Secret to gcloud on its standard input, and not into gcloud's log.
kubectl -n mlflow get secret mlflow-database -o go-template='{"--password": {{.data.DB_PASSWORD | base64decode | printf "%q"}}}' | CLOUDSDK_CORE_DISABLE_FILE_LOGGING=1 gcloud sql users create mlflow --instance=mlops --project=my-project --flags-file=-
# MLflow itself. Where it is installed already, this changes only what is new.
kubectl mlflow install --overlay gcp-cloudsql --artifacts-destination gs://mlflow-prod/artifacts --cloudsql-instance my-project:europe-west1:mlops --database-secret mlflow-database
