output "key_arns" {
  description = "ARN of each replica, by the names in keys."
  value       = { for name, k in aws_kms_replica_key.this : name => k.arn }
}

output "aliases" {
  description = "Name of each replica's alias, by the names in keys: the same as the primary's."
  value       = { for name, a in aws_kms_alias.this : name => a.name }
}
