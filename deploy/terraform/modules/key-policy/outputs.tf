output "json" {
  description = "The key policy."
  value       = jsonencode(local.policy)
  precondition {
    condition     = length(jsonencode(local.policy)) <= 32768
    error_message = "The policy is longer than the 32768 bytes that KMS accepts: name fewer principals, or roles in their place."
  }
}

output "administer_actions" {
  description = "What administrators may do that changes the key."
  value       = local.administer_actions
}

output "use_actions" {
  description = "What users may do."
  value       = local.use_actions
}
