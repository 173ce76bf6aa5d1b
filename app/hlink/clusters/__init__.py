"""Flink clusters (wire: 集群, ``/cluster``, ``/dashboard/clusterInfo``)."""

from app.hlink.clusters.models import Cluster

__all__ = ["Cluster"]
