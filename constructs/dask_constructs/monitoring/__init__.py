"""Monitors, rules and dashboards, for prometheus-operator and Grafana: as manifests, so that Git has them."""
