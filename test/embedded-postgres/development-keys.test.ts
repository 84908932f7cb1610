import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { readOrCreateKeys } from '../../src/embedded-postgres/development-keys.ts'
import { parseKeyRing } from '../../src/primitives/key-ring.ts'

t.test('the keys of a development database are made once, in a file that only its owner can read', async (t) => {
  const dataDir = t.testdir()
  const keys = await Promise.all([readOrCreateKeys(dataDir), readOrCreateKeys(dataDir)])
  t.equal(keys[0], keys[1])
  t.equal(await readOrCreateKeys(dataDir), keys[0])
  t.equal(parseKeyRing(keys[0]).encryptingId, 'dev')
  t.equal((await stat(join(dataDir, 'encryption-keys'))).mode & 0o777, 0o600)
})
