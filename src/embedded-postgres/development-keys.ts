import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newEncryptionKey } from '../primitives/key-ring.ts'

/**
 * Returns the encryption keys of a development database: the content of a file in its data directory, which only the
 * current user can read. Creates the file if it is missing.
 */
export async function readOrCreateKeys(dataDir: string): Promise<string> {
  const file = join(dataDir, 'encryption-keys')
  await writeFile(file, `${newEncryptionKey('dev')}\n`, { mode: 0o600, flag: 'wx', flush: true }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    },
  )
  return (await readFile(file, 'utf8')).trim()
}
