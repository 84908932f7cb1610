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

/** Starts a Redis that, like Postgres, syncs what it wrote to disk before it answers. */
export async function startRedis(directory: string): Promise<Redis> {
  install('redis-server', 'redis-server')
  const port = await freePort()
  const dir = join(directory, 'redis')
  await mkdir(dir)
  const settings = { bind: '127.0.0.1', port, dir, appendonly: 'yes', appendfsync: 'always', save: '' }
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)])
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  await Promise.race([
    isReady(child.stdout),
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

function isReady(output: NodeJS.ReadableStream): Promise<void> {
  return new Promise((resolve) => {
    // Keep reading, so that Redis never blocks on a full pipe.
    createInterface({ input: output }).on('line', (line) => {
      if (line.includes('Ready to accept connections')) resolve()
    })
  })
}
