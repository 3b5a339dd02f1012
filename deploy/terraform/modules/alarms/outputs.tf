output "topic_arn" {
  description = "ARN of the topic of all alarms."
  value       = local.topic_arn
}

output "key_policy_json" {
  description = "Policy of the topic's key."
  value       = module.policy.json
}

output "topic_policy_json" {
  description = "Policy of the topic."
  value       = jsonencode(local.topic_policy)
}

output "event_patterns" {
  description = "What each event rule matches."
  value       = { for name, r in local.rules : name => jsonencode(r.pattern) }
}

output "metric_filters" {
  description = "What each metric counts."
  value       = local.filters
}
