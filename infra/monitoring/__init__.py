"""What Prometheus and Grafana are told: metrics computed from the database, alert rules, a dashboard."""
