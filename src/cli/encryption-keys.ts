import { ConfigError } from '../config.ts'
import { clearSecretsWarning } from '../jobs/webhook-secret.ts'
import { type KeyRing, parseKeyRing } from '../primitives/key-ring.ts'
import { readSettings } from '../settings.ts'

/** Returns the keys of ENCRYPTION_KEYS; undefined if it is not set. */
export function readEncryptionKeys(): KeyRing | undefined {
  const { ENCRYPTION_KEYS: keys } = readSettings()
  return keys === undefined ? undefined : parseKeyRing(keys)
}

/** Prints a warning after a command has stored a secret without keys. */
export function warnWithoutKeys(keys: KeyRing | undefined): void {
  if (!keys) console.error(`warning: ${clearSecretsWarning}.`)
}

/** @throws ConfigError when ENCRYPTION_KEYS is not set */
export function requireEncryptionKeys(): KeyRing {
  const keys = readEncryptionKeys()
  if (keys) return keys
  throw new ConfigError(
    'ENCRYPTION_KEYS is not set. Set it to the same value as for API and worker. To make a key: ' +
      'ENCRYPTION_KEYS="$(date +%Y):$(openssl rand -base64 32)"',
  )
}
