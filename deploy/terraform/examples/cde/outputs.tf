output "key_arns" {
  description = "ARN of each key: those of the tenants go into the vault's configuration as kms.key_id and kms.mac_key_id."
  value       = module.service_keys.key_arns
}

output "replica_key_arns" {
  description = "ARN of each replica."
  value       = module.replicas.key_arns
}

output "aliases" {
  description = "Name of each key's alias."
  value       = module.service_keys.aliases
}

output "not_rotated" {
  description = "Keys that AWS does not rotate."
  value       = module.service_keys.not_rotated
}

output "vault_role_arn" {
  description = "The role that the vault runs as."
  value       = local.vault_role_arn
}

output "topic_arn" {
  description = "The topic of all alarms, or null."
  value       = one(module.alarms[*].topic_arn)
}
