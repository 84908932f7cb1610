import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { hasProgram, installPackage } from '../../test/support/debian-package.ts'
import { freePort } from './process.ts'

export interface Redis {
  pid: number
  port: number
  stop(): Promise<void>
}

/** Starts a Redis that syncs each write to disk before it answers, as Postgres does with each commit. */
export async function startRedis(directory: string): Promise<Redis> {
  installPackage('redis-server', () => hasProgram('redis-server'))
  const port = await freePort()
  const dir = join(directory, 'redis')
  await mkdir(dir)
  const settings = { bind: '127.0.0.1', port, dir, appendonly: 'yes', appendfsync: 'always', save: '' }
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)])
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  await Promise.race([
    untilReady(child.stdout),
    exited.then(() => Promise.reject(new Error(`redis-server exited; its arguments were ${args.join(' ')}`))),
  ])
  return {
    pid: child.pid as number,
    port,
    async stop() {
      child.kill('SIGTERM')
      await exited
    },
  }
}

function untilReady(output: NodeJS.ReadableStream): Promise<void> {
  return new Promise((resolve) => {
    // Reading continues after the promise has resolved. Otherwise Redis would block on a full pipe.
    createInterface({ input: output }).on('line', (line) => {
      if (line.includes('Ready to accept connections')) resolve()
    })
  })
}
