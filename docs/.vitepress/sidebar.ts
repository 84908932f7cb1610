/** A part of the sidebar. */
export interface Section {
  title: string
  /** Paths from the root of the checkout, in the order in which to read them. */
  pages: readonly string[]
}

const docs = (...names: string[]): string[] => names.map((name) => `docs/${name}.md`)

/** All pages of the site, besides the API reference and the sources. A page that is missing here fails a test. */
export const sections: readonly Section[] = [
  { title: 'Start', pages: [...docs('getting-started', 'concepts', 'getting-the-result', 'client')] },
  {
    title: 'Build',
    pages: docs(
      'operations',
      'handlers',
      'retries-and-timeouts',
      'failed-jobs',
      'idempotency',
      'long-jobs',
      'outside-effects',
      'dependencies',
      'batches',
      'schedules',
      'coalescing',
      'operation-limits',
      'webhooks',
      'access',
      'embedding',
      'frameworks',
      'testing',
      'isolation',
      'sealing',
      'row-security',
    ),
  },
  {
    title: 'Run',
    pages: docs(
      'configuration',
      'deploying',
      'migrating',
      'upgrading',
      'stopping',
      'performance',
      'scaling',
      'postgres',
      'pgbouncer',
      'roles',
      'console',
      'metrics',
      'alerts',
      'telemetry',
      'doctor',
      'troubleshooting',
    ),
  },
  { title: 'Look up', pages: [...docs('cli', 'sql', 'limits'), 'CHANGELOG.md'] },
  {
    title: 'Understand',
    pages: [
      ...docs('guarantees', 'design-choices', 'comparison', 'coming-from', 'architecture', 'sources'),
      'SECURITY.md',
      'bench/README.md',
      'bench/RESULTS.md',
      'CONTRIBUTING.md',
    ],
  },
]
