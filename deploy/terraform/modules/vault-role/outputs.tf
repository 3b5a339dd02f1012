output "role_arn" {
  description = "ARN of the role. It is known before the role is made, so that key policies can name it."
  value       = "arn:${var.partition}:iam::${var.account_id}:role/${var.name}"
}

output "policy_json" {
  description = "Identity policy and permissions boundary of the role."
  value       = jsonencode(local.policy)
}

output "trust_json" {
  description = "Who may take the role."
  value       = jsonencode(local.trust)
}

output "instance_profile" {
  description = "Name of the instance profile, or null."
  value       = one(aws_iam_instance_profile.vault[*].name)
}
