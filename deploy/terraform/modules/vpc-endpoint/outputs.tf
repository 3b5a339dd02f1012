output "id" {
  description = "Id of the endpoint, for vpc_endpoint_ids of the other modules."
  value       = aws_vpc_endpoint.kms.id
}

output "security_group_id" {
  description = "The endpoint's security group."
  value       = aws_security_group.endpoint.id
}

output "policy_json" {
  description = "Policy of the endpoint."
  value       = jsonencode(local.policy)
}
