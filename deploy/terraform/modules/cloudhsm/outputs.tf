output "cluster_id" {
  description = "Id of the cluster."
  value       = local.cluster_id
}

output "client_security_group_id" {
  description = "Security group of the custodians' machine; null for a cluster that existed."
  value       = one(aws_security_group.client[*].id)
}

output "custom_key_store_id" {
  description = "Id of the custom key store, for custom_key_store_id of keys in service-keys; null until it is connected."
  value       = var.connected ? one(aws_kms_custom_key_store.this[*].id) : null
}

output "key_arns" {
  description = "ARN of each key in the custom key store, by the names in keys."
  value       = try(module.keys[0].key_arns, {})
}

output "policies" {
  description = "Policy of each key in the custom key store."
  value       = try(module.keys[0].policies, {})
}
