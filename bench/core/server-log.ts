import { open, stat } from 'node:fs/promises'
import type { Server } from './server.ts'

/** Returns a function that reads what Postgres has appended to its log since this call. */
export async function followLog({ logFile }: Server): Promise<() => Promise<string>> {
  const { size: from } = await stat(logFile)
  return async () => {
    const file = await open(logFile)
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc((await file.stat()).size - from), { position: from })
      return buffer.toString('utf8', 0, bytesRead)
    } finally {
      await file.close()
    }
  }
}
