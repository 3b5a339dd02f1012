output "trail_arn" {
  description = "ARN of the trail."
  value       = local.trail_arn
}

output "trail_name" {
  description = "Name of the trail."
  value       = aws_cloudtrail.this.name
}

output "bucket_name" {
  description = "Name of the logs' bucket."
  value       = aws_s3_bucket.logs.id
}

output "key_arn" {
  description = "ARN of the key of logs and log group."
  value       = aws_kms_key.trail.arn
}

output "log_group_name" {
  description = "Name of the log group, for the module alarms; null without cloudwatch_logs."
  value       = one(aws_cloudwatch_log_group.trail[*].name)
}

output "key_policy_json" {
  description = "Policy of the key."
  value       = module.policy.json
}

output "bucket_policy_json" {
  description = "Policy of the bucket."
  value       = jsonencode(local.bucket_policy)
}
