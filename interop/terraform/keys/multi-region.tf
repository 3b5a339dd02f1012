# A key in two Regions, with a policy and tags in each.
resource "aws_kms_key" "primary" {
  description             = "in two Regions"
  deletion_window_in_days = 7
  multi_region            = true
  enable_key_rotation     = true
  rotation_period_in_days = var.stage == 1 ? 90 : 180
}

resource "aws_kms_replica_key" "dr" {
  provider                = aws.dr
  description             = var.stage == 1 ? "for disasters" : "for disasters and drills"
  deletion_window_in_days = 7
  primary_key_arn         = aws_kms_key.primary.arn
  policy                  = data.aws_iam_policy_document.key.json
  tags                    = { Region = "dr", Stage = tostring(var.stage) }
}

resource "aws_kms_alias" "dr" {
  provider      = aws.dr
  name          = "alias/in-two-regions"
  target_key_id = aws_kms_replica_key.dr.key_id
}
