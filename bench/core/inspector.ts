import { once } from 'node:events'

/** What a Node.js process needs in its environment so that it can be inspected at a port. */
export const inspectable = (port: number): NodeJS.ProcessEnv => ({ NODE_OPTIONS: `--inspect-port=127.0.0.1:${port}` })

/** So long an inspector may take to open, and to answer, in milliseconds. */
const patience = 30_000

/** The way into a Node.js process (Chrome DevTools Protocol). */
interface Inspector {
  ask<Answer>(method: string, params?: object): Promise<Answer>
  close(): void
}

async function inspect(pid: number, port: number): Promise<Inspector> {
  // Node.js opens its inspector at this signal.
  process.kill(pid, 'SIGUSR1')
  const socket = new WebSocket(await addressOf(port))
  await once(socket, 'open', { signal: AbortSignal.timeout(patience) })
  let id = 0
  return {
    async ask(method, params = {}) {
      const signal = AbortSignal.timeout(patience)
      socket.send(JSON.stringify({ id: ++id, method, params }))
      const [{ data }] = await once(socket, 'message', { signal })
      const { error, result } = JSON.parse(data)
      if (error) throw new Error(`${method}: ${error.message}`)
      return result
    },
    close: () => socket.close(),
  }
}

async function addressOf(port: number): Promise<string> {
  const deadline = performance.now() + patience
  for (;;) {
    const response = await fetch(`http://127.0.0.1:${port}/json/list`).catch(() => undefined)
    const [target] = response ? ((await response.json()) as { webSocketDebuggerUrl: string }[]) : []
    if (target) return target.webSocketDebuggerUrl
    if (performance.now() > deadline) throw new Error('The inspector of a process does not open')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Has a Node.js process collect its garbage: what it has in memory then is in use. */
export async function collectGarbage(pid: number, port: number): Promise<void> {
  const inspector = await inspect(pid, port)
  try {
    await inspector.ask('HeapProfiler.collectGarbage')
  } finally {
    inspector.close()
  }
}

/** What V8 has sampled (Profiler.Profile). */
export interface Profile {
  nodes: {
    id: number
    callFrame: { functionName: string; url: string; lineNumber: number }
    children?: number[]
  }[]
  samples: number[]
  /** In microseconds. */
  timeDeltas: number[]
}

/** Samples what a Node.js process does while something else goes on. */
export async function profileWhile(pid: number, port: number, work: () => Promise<unknown>): Promise<Profile> {
  const inspector = await inspect(pid, port)
  try {
    await inspector.ask('Profiler.enable')
    await inspector.ask('Profiler.start')
    await work()
    return (await inspector.ask<{ profile: Profile }>('Profiler.stop')).profile
  } finally {
    inspector.close()
  }
}
