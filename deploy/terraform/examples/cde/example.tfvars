# Made-up values: with them the tests make their plans.
account_id      = "111122223333"
administrators  = ["arn:aws:iam::111122223333:role/key-admin"]
provisioners    = ["arn:aws:iam::111122223333:role/terraform"]
file_users      = ["arn:aws:iam::111122223333:role/exporter"]
organization_id = "o-a1b2c3d4e5"
applications = {
  rds     = ["arn:aws:iam::111122223333:role/app"]
  ebs     = ["arn:aws:iam::111122223333:role/app"]
  s3      = ["arn:aws:iam::111122223333:role/app"]
  secrets = ["arn:aws:iam::111122223333:role/app"]
}
tenants = {
  shop   = { mode = "aws_kms_envelope" }
  market = { mode = "aws_kms" }
}
recovery = {
  account_id = "444455556666"
  principals = ["arn:aws:iam::444455556666:role/restore"]
}
vpc_id                  = "vpc-0123456789abcdef0"
subnet_ids              = ["subnet-0123456789abcdef0", "subnet-0123456789abcdef1"]
vault_security_group_id = "sg-0123456789abcdef0"
log_bucket_name         = "example-cde-trail"
log_readers             = ["arn:aws:iam::111122223333:role/siem"]
alarm_mail              = "security@example.com"
cloudhsm                = true
