base:
  # Every host that the topology names.
  I@rabbit_ha:hosts:{{ grains['id'] }}:
    - match: compound
    - rabbit_ha
