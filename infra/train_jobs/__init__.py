"""Training on several machines of a cluster: TrainJobs of Kubeflow Trainer 2, made, watched and begun again."""
