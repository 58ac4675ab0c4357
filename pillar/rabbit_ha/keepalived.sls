# yaml-language-server: $schema=../../salt/rabbit_ha/pillar.schema.json
# What differs from salt/rabbit_ha/defaults.yaml in keepalived; see docs/pillar.md.
rabbit_ha:
  keepalived: {}
