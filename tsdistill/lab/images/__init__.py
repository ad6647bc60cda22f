"""The networks, data sets and trainings of the experiment cifar10."""
