# Only computes documents: no provider.
terraform {
  required_version = ">= 1.9, < 2.0"
}
