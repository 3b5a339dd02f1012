# Replicas of multi-Region keys in the Region of the provider that the caller passes: what
# was sealed in one Region opens in the other. Id and material are the primary's, rotation
# follows it; policy, tags and alias are the replica's own, so they are set here.

resource "aws_kms_replica_key" "this" {
  for_each = var.keys

  description                        = "${each.key} of ${var.environment}, replica"
  primary_key_arn                    = each.value.primary_key_arn
  policy                             = each.value.policy
  bypass_policy_lockout_safety_check = false
  deletion_window_in_days            = var.deletion_window_in_days

  tags = merge(var.tags, {
    Environment = var.environment
    Service     = each.value.service != null ? each.value.service : each.key
    PCIScope    = tostring(each.value.pci_scope)
  })
}

resource "aws_kms_alias" "this" {
  for_each = var.keys

  name          = "alias/${each.key}-${var.environment}-cmk"
  target_key_id = aws_kms_replica_key.this[each.key].key_id
}
