import type { FastifyPluginAsync } from 'fastify'
import { attachmentRoutes } from './attachments/routes.ts'
import { exportRoutes } from './exports/routes.ts'
import { importRoutes } from './imports/routes.ts'
import { overdueRoutes } from './overdue/routes.ts'
import { pageRoutes } from './page/routes.ts'
import { summaryRoutes } from './summary/routes.ts'
import { todoRoutes } from './todo/routes.ts'
import { wordRoutes } from './words/routes.ts'

/** The app's own routes: what clients read, and files that they send. The routes of the operations are not here. */
const routes: FastifyPluginAsync = async (app) => {
  for (const plugin of [
    ...[todoRoutes, attachmentRoutes, summaryRoutes, wordRoutes],
    ...[importRoutes, exportRoutes, overdueRoutes, pageRoutes],
  ]) {
    await app.register(plugin)
  }
}

export default routes
