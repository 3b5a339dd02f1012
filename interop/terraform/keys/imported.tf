# Material that was made elsewhere, with an end to the second, and in two Regions.
variable "material" {
  type      = string
  sensitive = true
}

variable "valid_to" {
  type = string
}

resource "aws_kms_external_key" "imported" {
  description             = "material of our own"
  deletion_window_in_days = 7
  key_material_base64     = var.material
  valid_to                = var.valid_to
  enabled                 = true
  tags                    = { Origin = "elsewhere" }
}

resource "aws_kms_external_key" "primary" {
  description             = "material of our own in two Regions"
  deletion_window_in_days = 7
  multi_region            = true
  key_material_base64     = var.material
  enabled                 = var.stage == 1
}

resource "aws_kms_replica_external_key" "dr" {
  provider                = aws.dr
  description             = "the same material there"
  deletion_window_in_days = 7
  primary_key_arn         = aws_kms_external_key.primary.arn
  key_material_base64     = var.material
}

# Nobody has imported anything yet.
resource "aws_kms_external_key" "waiting" {
  description             = "waits"
  deletion_window_in_days = 7
}
