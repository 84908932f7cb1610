import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { install } from './install.ts'
import { freePort } from './process.ts'

export interface Redis {
  pid: number
  port: number
  stop(): Promise<void>
}

/** Starts a Redis that has written and synced what it has answered, as Postgres has. */
export async function startRedis(directory: string): Promise<Redis> {
  install('redis-server', 'redis-server')
  const port = await freePort()
  const dir = join(directory, 'redis')
  await mkdir(dir)
  const settings = { bind: '127.0.0.1', port, dir, appendonly: 'yes', appendfsync: 'always', save: '' }
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)])
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  await Promise.race([
    isReady(child.stdout),
    ended.then(() => Promise.reject(new Error(`redis-server ended: run it with ${args.join(' ')}`))),
  ])
  return {
    pid: child.pid as number,
    port,
    async stop() {
      child.kill('SIGTERM')
      await ended
    },
  }
}

function isReady(output: NodeJS.ReadableStream): Promise<void> {
  return new Promise((resolve) => {
    // Read to the end, so that it never waits for us.
    createInterface({ input: output }).on('line', (line) => {
      if (line.includes('Ready to accept connections')) resolve()
    })
  })
}
