# The APIs that the steps below and MLflow itself call.
gcloud services enable storage.googleapis.com iam.googleapis.com iamcredentials.googleapis.com sqladmin.googleapis.com --project=my-project
# The instance is yours already. Look that it is RUNNABLE and speaks PostgreSQL, with a public address.
gcloud sql instances describe mlops --project=my-project --format='yaml(connectionName,state,databaseVersion,ipAddresses,settings.ipConfiguration.pscConfig,settings.databaseFlags)'
# The bucket of MLflow's artifacts: access by roles alone, never public.
gcloud storage buckets create gs://mlflow-prod --project=my-project --location=europe-west1 --uniform-bucket-level-access --public-access-prevention
# An account of Google's for MLflow's pods.
gcloud iam service-accounts create mlflow --project=my-project --display-name=MLflow
# An account of Google's for the Cloud SQL Auth Proxy, which alone reaches the database.
gcloud iam service-accounts create mlflow-cloudsql-proxy --project=my-project --display-name='MLflow Cloud SQL proxy'
# MLflow reads and writes the artifacts, and nothing else.
gcloud storage buckets add-iam-policy-binding gs://mlflow-prod --role=roles/storage.objectUser --member=serviceAccount:mlflow@my-project.iam.gserviceaccount.com --condition=None
# Lets the Cloud SQL Auth Proxy connect to the instances of the project.
gcloud projects add-iam-policy-binding my-project --role=roles/cloudsql.client --member=serviceAccount:mlflow-cloudsql-proxy@my-project.iam.gserviceaccount.com --condition=None
# Pods of the Kubernetes account mlflow in namespace mlflow may act as the service account.
gcloud iam service-accounts add-iam-policy-binding mlflow@my-project.iam.gserviceaccount.com --project=my-project --role=roles/iam.workloadIdentityUser --member='serviceAccount:my-project.svc.id.goog[mlflow/mlflow]' --condition=None
# Pods of the Kubernetes account mlflow-cloudsql-proxy in namespace mlflow may act as the service account.
gcloud iam service-accounts add-iam-policy-binding mlflow-cloudsql-proxy@my-project.iam.gserviceaccount.com --project=my-project --role=roles/iam.workloadIdentityUser --member='serviceAccount:my-project.svc.id.goog[mlflow/mlflow-cloudsql-proxy]' --condition=None
# The database of MLflow.
gcloud sql databases create mlflowdb --instance=mlops --project=my-project
# The namespace, for the Secrets below: as install makes it, where it is not there.
kubectl -n mlflow get namespace mlflow || { kubectl -n mlflow create namespace mlflow && kubectl -n mlflow label namespace mlflow app.kubernetes.io/name=mlflow pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted; }
# A password that nobody sees, in the Secret that MLflow will read. Leave this out where secret/mlflow-database is there (and use --apply where it has percent-escapes).
openssl rand -hex 24 | tr -d '\n' | kubectl -n mlflow create secret generic mlflow-database --from-file=DB_PASSWORD=/dev/stdin
# The user of the database. The password goes from the Secret to gcloud on its standard input, and not into gcloud's log.
kubectl -n mlflow get secret mlflow-database -o go-template='{"--password": {{.data.DB_PASSWORD | base64decode | printf "%q"}}}' | CLOUDSDK_CORE_DISABLE_FILE_LOGGING=1 gcloud sql users create mlflow --instance=mlops --project=my-project --flags-file=-
# MLflow itself, its Kubernetes accounts annotated with the service accounts. Where it is installed already, this changes only what is new.
kubectl mlflow install --overlay gcp-cloudsql --artifacts-destination gs://mlflow-prod/artifacts --cloudsql-instance my-project:europe-west1:mlops --google-service-account mlflow@my-project.iam.gserviceaccount.com --cloudsql-service-account mlflow-cloudsql-proxy@my-project.iam.gserviceaccount.com --database-secret mlflow-database
