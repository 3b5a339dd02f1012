output "statements_json" {
  description = "Statements for the key's policy: additional_statements_json of key-policy and service-keys."
  value       = jsonencode(concat(local.statements, local.grants))
}

output "account_ids" {
  description = "The accounts that the key is shared with: shared_account_ids of key-policy and service-keys."
  value       = sort(distinct([for s in var.shares : s.account_id]))
}
