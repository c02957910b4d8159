@echo off
rem kubectl completes its plugin through a program of this name.
kubectl-mlflow.exe __complete %*
