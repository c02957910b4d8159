# The APIs that the steps below and MLflow itself call.
gcloud services enable storage.googleapis.com iam.googleapis.com iamcredentials.googleapis.com sqladmin.googleapis.com --project=example.com:models
# The APIs that the steps below and MLflow itself call.
gcloud services enable sqladmin.googleapis.com --project=example.com:databases
# The instance is yours already. Look that it is RUNNABLE and speaks PostgreSQL, with a public address.
gcloud sql instances describe mlops --project=example.com:databases --format='yaml(connectionName,state,databaseVersion,ipAddresses,settings.ipConfiguration.pscConfig,settings.databaseFlags)'
# The bucket of MLflow's artifacts: access by roles alone, never public.
gcloud storage buckets create gs://mlflow-prod --project=example.com:models --location=europe-west1 --uniform-bucket-level-access --public-access-prevention
# An account of Google's for MLflow's pods.
gcloud iam service-accounts create mlflow --project=example.com:models --display-name=MLflow
# An account of Google's for the Cloud SQL Auth Proxy, which alone reaches the database.
gcloud iam service-accounts create mlflow-proxy --project=example.com:models --display-name='MLflow Cloud SQL proxy'
# MLflow reads and writes the artifacts, and nothing else.
gcloud storage buckets add-iam-policy-binding gs://mlflow-prod --role=roles/storage.objectUser --member=serviceAccount:mlflow@models.example.com.iam.gserviceaccount.com --condition=None
# Lets the Cloud SQL Auth Proxy connect to the instances of the project.
gcloud projects add-iam-policy-binding example.com:databases --role=roles/cloudsql.client --member=serviceAccount:mlflow-proxy@models.example.com.iam.gserviceaccount.com --condition=None
# Pods of the Kubernetes account mlflow in namespace ml-prod may act as the service account.
gcloud iam service-accounts add-iam-policy-binding mlflow@models.example.com.iam.gserviceaccount.com --project=example.com:models --role=roles/iam.workloadIdentityUser --member='serviceAccount:example.com:clusters.svc.id.goog[ml-prod/mlflow]' --condition=None
# Pods of the Kubernetes account mlflow-cloudsql-proxy in namespace ml-prod may act as the service account.
gcloud iam service-accounts add-iam-policy-binding mlflow-proxy@models.example.com.iam.gserviceaccount.com --project=example.com:models --role=roles/iam.workloadIdentityUser --member='serviceAccount:example.com:clusters.svc.id.goog[ml-prod/mlflow-cloudsql-proxy]' --condition=None
# The database of MLflow.
gcloud sql databases create tracking --instance=mlops --project=example.com:databases
# The namespace, for the Secrets below: as install makes it, where it is not there.
kubectl --context prod -n ml-prod get namespace ml-prod || { kubectl --context prod -n ml-prod create namespace ml-prod && kubectl --context prod -n ml-prod label namespace ml-prod app.kubernetes.io/name=mlflow pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/warn=restricted; }
# A password that nobody sees, in the Secret that MLflow will read. Leave this out where secret/tracker-password is there (and use --apply where it has percent-escapes).
openssl rand -hex 24 | tr -d '\n' | kubectl --context prod -n ml-prod create secret generic tracker-password --from-file=DB_PASSWORD=/dev/stdin
# The user of the database. The password goes from the Secret to gcloud on its standard input, and not into gcloud's log.
kubectl --context prod -n ml-prod get secret tracker-password -o go-template='{"--password": {{.data.DB_PASSWORD | base64decode | printf "%q"}}}' | CLOUDSDK_CORE_DISABLE_FILE_LOGGING=1 gcloud sql users create tracker --instance=mlops --project=example.com:databases --flags-file=-
# MLflow itself, its Kubernetes accounts annotated with the service accounts. Where it is installed already, this changes only what is new.
kubectl mlflow install --overlay gcp-cloudsql --artifacts-destination gs://mlflow-prod --cloudsql-instance example.com:databases:europe-west1:mlops --google-service-account mlflow@models.example.com.iam.gserviceaccount.com --cloudsql-service-account mlflow-proxy@models.example.com.iam.gserviceaccount.com --database-name tracking --database-user tracker --database-secret tracker-password --context prod -n ml-prod
