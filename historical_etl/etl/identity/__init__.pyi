from .change import SPLITTABLE as SPLITTABLE
from .change import IdentityChange as IdentityChange
from .identities import SecurityIdentities as SecurityIdentities
