"""The GraphQL gateway that adds contact creation to HiEnergy."""
