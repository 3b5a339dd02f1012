output "key_arns" {
  description = "ARN of each key, by the names in keys."
  value       = { for name, k in aws_kms_key.this : name => k.arn }
}

output "key_ids" {
  description = "Id of each key, by the names in keys."
  value       = { for name, k in aws_kms_key.this : name => k.key_id }
}

output "aliases" {
  description = "Name of each key's alias, by the names in keys."
  value       = { for name, a in aws_kms_alias.this : name => a.name }
}

output "policies" {
  description = "Policy of each key, by the names in keys: what replicas need too."
  value       = { for name, p in module.policy : name => p.json }
}

output "not_rotated" {
  description = "Names of keys that AWS does not rotate (HMAC, custom key store, or turned off): they need a rotation by hand within their cryptoperiod."
  value       = [for name, on in local.rotates : name if !on]
}
